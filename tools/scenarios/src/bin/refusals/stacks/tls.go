// A TLS client or server of Go: tls client|server key=value…, as tls.py.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

const patience = 5 * time.Second

var options = map[string]string{}

func main() {
	log.SetFlags(0)
	for _, argument := range os.Args[2:] {
		key, value, _ := strings.Cut(argument, "=")
		options[key] = value
	}
	if os.Args[1] == "client" {
		request()
	} else {
		serve()
	}
}

func config() *tls.Config {
	version := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[options["version"]]
	config := &tls.Config{MinVersion: version, MaxVersion: version, ServerName: options["name"]}
	if options["cert"] != "" {
		pair, err := tls.LoadX509KeyPair(options["cert"], options["key"])
		check(err)
		config.Certificates = []tls.Certificate{pair}
		// Without this it is not sent where the server does not name its CA.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}
	}
	if options["alpn"] != "" {
		config.NextProtos = strings.Split(options["alpn"], ",")
	}
	config.InsecureSkipVerify = options["ca"] == ""
	if options["ca"] != "" {
		pem, err := os.ReadFile(options["ca"])
		check(err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		config.RootCAs, config.ClientCAs = pool, pool
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config
}

func request() {
	stream, err := tls.Dial("tcp", "127.0.0.1:"+options["port"], config())
	check(err)
	defer stream.Close()
	check(stream.SetDeadline(time.Now().Add(patience)))
	_, err = stream.Write([]byte("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
	check(err)
	answer := make([]byte, 4096)
	length, err := stream.Read(answer)
	if length == 0 {
		check(err)
	}
	line, _, _ := strings.Cut(string(answer[:length]), "\r\n")
	fmt.Println(line)
}

func serve() {
	listener, err := tls.Listen("tcp", "127.0.0.1:"+options["port"], config())
	check(err)
	for {
		stream, err := listener.Accept()
		check(err)
		go answer(stream)
	}
}

func answer(stream net.Conn) {
	defer stream.Close()
	_ = stream.SetDeadline(time.Now().Add(patience))
	if length, err := stream.Read(make([]byte, 4096)); length == 0 {
		log.Print(err)
		return
	}
	_, _ = stream.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
