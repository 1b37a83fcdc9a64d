// The workload of the mesh's tests: serves HTTP, gRPC and two kinds of TCP, calls others in all of these
// ways, and counts how that went.
//
//	app [TARGET...]    calls each target five times a second
//
// A target is http://HOST:PORT/, https://HOST:PORT/, grpc://HOST:PORT, tcp://HOST:PORT (the client speaks first) or
// greeting://HOST:PORT (the server does). Every tcp and greeting call is a connection of its own, and so a
// handshake between the sidecars. A target that begins with kept- (kept-tcp://...) has one connection, which
// is opened again when it breaks.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	interval = 200 * time.Millisecond
	patience = 3 * time.Second
	greeting = "hello\n"
)

func main() {
	go serve(":7000", echo)
	go serve(":7001", greet)
	go serveGrpc(":9090")
	go func() { log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(answer))) }()
	for _, target := range os.Args[1:] {
		go load(target)
	}
	// Not behind the sidecar: what tests and Prometheus ask.
	control := http.NewServeMux()
	control.HandleFunc("/metrics", metrics)
	control.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		if err := newCaller(r.URL.Query().Get("target"))(); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	control.HandleFunc("/flood", flood)
	log.Fatal(http.ListenAndServe(":8081", control))
}

// Calls a target as often as it answers, over eight connections, and says how many calls that were, how many of
// them failed, and how long the median and the slowest hundredth took, in microseconds.
func flood(w http.ResponseWriter, r *http.Request) {
	duration, err := time.ParseDuration(r.URL.Query().Get("duration"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	const workers = 8
	took, failed := [workers][]time.Duration{}, [workers]int{}
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			call := newCaller(r.URL.Query().Get("target"))
			for end := time.Now().Add(duration); time.Now().Before(end); {
				begin := time.Now()
				if call() != nil {
					failed[worker]++
				}
				took[worker] = append(took[worker], time.Since(begin))
			}
		})
	}
	all.Wait()
	calls, failures := slices.Concat(took[:]...), 0
	for _, count := range failed {
		failures += count
	}
	slices.Sort(calls)
	at := func(share float64) int64 { return calls[int(share*float64(len(calls)-1))].Microseconds() }
	fmt.Fprintf(w, `{"calls": %d, "failed": %d, "median": %d, "slowest": %d}`, len(calls), failures, at(0.5), at(0.99))
}

// Servers.

func answer(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s\nX-Forwarded-Client-Cert: %s\n", os.Getenv("NAME"), r.Header.Get("X-Forwarded-Client-Cert"))
}

func serve(address string, handle func(net.Conn)) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		if connection, err := listener.Accept(); err == nil {
			go func() {
				defer connection.Close()
				handle(connection)
			}()
		}
	}
}

func echo(connection net.Conn) { io.Copy(connection, connection) }

func greet(connection net.Conn) {
	io.WriteString(connection, greeting)
	io.Copy(io.Discard, connection)
}

func serveGrpc(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	log.Fatal(server.Serve(listener))
}

// Callers: each makes one call.

type caller func() error

func newCaller(target string) caller {
	kept := strings.HasPrefix(target, "kept-")
	parsed, err := url.Parse(strings.TrimPrefix(target, "kept-"))
	if err != nil {
		return func() error { return err }
	}
	switch parsed.Scheme {
	case "http", "https":
		return httpCaller(parsed.String())
	case "grpc":
		return grpcCaller(parsed.Host)
	case "tcp", "greeting":
		return tcpCaller(parsed.Host, parsed.Scheme == "greeting", kept)
	}
	return func() error { return fmt.Errorf("%q is no target", target) }
}

func httpCaller(address string) caller {
	// Its own TLS, of which the sidecar sees nothing; whose certificate that is does not matter here.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := http.Client{Timeout: patience, Transport: transport}
	return func() error {
		reply, err := client.Get(address)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		if err == nil && reply.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", reply.Status, body)
		}
		return err
	}
}

func grpcCaller(address string) caller {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return func() error { return err }
	}
	client := grpc_health_v1.NewHealthClient(connection)
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
}

func tcpCaller(address string, greeted, kept bool) caller {
	var connection net.Conn
	drop := func() {
		if connection != nil {
			connection.Close()
			connection = nil
		}
	}
	return func() (err error) {
		defer func() {
			if err != nil || !kept {
				drop()
			}
		}()
		fresh := connection == nil
		if fresh {
			if connection, err = net.DialTimeout("tcp", address, patience); err != nil {
				connection = nil
				return err
			}
		}
		connection.SetDeadline(time.Now().Add(patience))
		if !greeted {
			if _, err = io.WriteString(connection, greeting); err != nil {
				return err
			}
		} else if !fresh {
			return nil
		}
		_, err = io.ReadFull(connection, make([]byte, len(greeting)))
		return err
	}
}

// Load, and what is counted of it.

var (
	lock   sync.Mutex
	counts = map[[2]string]int{}
)

func load(target string) {
	call := newCaller(target)
	for range time.Tick(interval) {
		result := "ok"
		if err := call(); err != nil {
			result = "failed"
			log.Print(target, ": ", err)
		}
		lock.Lock()
		counts[[2]string{target, result}]++
		lock.Unlock()
	}
}

func metrics(w http.ResponseWriter, _ *http.Request) {
	lock.Lock()
	defer lock.Unlock()
	var lines []string
	for key, count := range counts {
		lines = append(lines, fmt.Sprintf("app_calls_total{target=%q,result=%q} %d\n", key[0], key[1], count))
	}
	sort.Strings(lines)
	io.WriteString(w, strings.Join(lines, ""))
}
