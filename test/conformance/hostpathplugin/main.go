// Command hostpathplugin stands in for the proxy mode of the CSI hostpath driver: the program of the image in whose pods the suite's drivers of
// dynamic resource allocation have their sockets.
//
//	hostpathplugin --endpoint=/path/of.sock --proxy-endpoint=tcp://:9000
//
// It joins each connection to the socket with one to the TCP port, in the order in which they come.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

func main() {
	endpoint := flag.String("endpoint", "", "unix socket to listen on")
	proxy := flag.String("proxy-endpoint", "", "tcp://host:port to listen on")
	_ = flag.Int("v", 0, "ignored")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, strings.TrimPrefix(*endpoint, "unix://"), strings.TrimPrefix(*proxy, "tcp://")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, socket, address string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	from, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	to, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	context.AfterFunc(ctx, func() { from.Close(); to.Close() })
	var joined sync.WaitGroup
	defer joined.Wait()
	for {
		a, err := from.Accept()
		if err != nil {
			return ignoreClosed(ctx, err)
		}
		b, err := to.Accept()
		if err != nil {
			return errors.Join(ignoreClosed(ctx, err), a.Close())
		}
		joined.Go(func() { join(ctx, a, b) })
	}
}

// join copies both ways until one side ends.
func join(ctx context.Context, a, b net.Conn) {
	end := func() { a.Close(); b.Close() }
	defer context.AfterFunc(ctx, end)()
	var g sync.WaitGroup
	g.Go(func() { defer end(); _, _ = io.Copy(a, b) })
	g.Go(func() { defer end(); _, _ = io.Copy(b, a) })
	g.Wait()
}

func ignoreClosed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
