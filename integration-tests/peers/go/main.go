// Command serve is the handler contract of the conformance suite, written with numaflow-go.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	numaflow "github.com/numaproj/numaflow-go/pkg"
	"github.com/numaproj/numaflow-go/pkg/batchmapper"
	"github.com/numaproj/numaflow-go/pkg/mapper"
	"github.com/numaproj/numaflow-go/pkg/mapstreamer"
	"github.com/numaproj/numaflow-go/pkg/sourcer"
)

func main() {
	kind := os.Getenv("CONFORMANCE_KIND")
	server := serverOf(kind)
	if server == nil {
		fmt.Fprintf(os.Stderr, "CONFORMANCE_KIND is %q, which this peer does not serve\n", kind)
		os.Exit(3)
	}
	if err := server.Start(context.Background()); err != nil {
		log.Fatalf("the server failed: %v", err)
	}
}

func serverOf(kind string) numaflow.Server {
	switch kind {
	case "map-unary":
		return mapper.NewServer(mapper.MapperFunc(mapUnary),
			options(mapper.WithSockAddr, mapper.WithServerInfoFilePath)...)
	case "map-batch":
		return batchmapper.NewServer(batchmapper.BatchMapperFunc(mapBatch),
			options(batchmapper.WithSockAddr, batchmapper.WithServerInfoFilePath)...)
	case "map-stream":
		return mapstreamer.NewServer(mapstreamer.MapStreamerFunc(mapStream),
			options(mapstreamer.WithSockAddr, mapstreamer.WithServerInfoFilePath)...)
	case "source":
		return sourcer.NewServer(newSource(os.Getenv("CONFORMANCE_DEFAULTS") == "1"),
			options(sourcer.WithSockAddr, sourcer.WithServerInfoFilePath)...)
	}
	return nil
}

// options holds a kind's options for what the environment sets; the rest is the SDK's to decide.
func options[Option any](socket, serverInfo func(string) Option) []Option {
	var set []Option
	if path := os.Getenv("CONFORMANCE_SOCKET"); path != "" {
		set = append(set, socket(path))
	}
	if path := os.Getenv("CONFORMANCE_SERVER_INFO"); path != "" {
		set = append(set, serverInfo(path))
	}
	return set
}
