module mtls-watch/mesh/spire

go 1.25.0

require github.com/spiffe/spire v1.13.3
