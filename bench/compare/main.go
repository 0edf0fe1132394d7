// Command compare measures Clipper beside upstream's control plane, on the same machine in the same run, and prints one table.
//
//	compare -clipper bin/clipper -scratch out/bench
//
// Upstream's etcd, kube-apiserver, kube-controller-manager and kube-scheduler are built from their modules in the scratch folder
// once. Each side is started, measured and stopped by itself, so that neither disturbs the other. CPU is what the kernel accounted to the
// servers' processes, not to the client.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"

	"k8s.io/client-go/rest"
)

func main() {
	clipper := flag.String("clipper", "bin/clipper", "the program to measure")
	scratch := flag.String("scratch", "out/bench", "folder for upstream's programs and for data")
	idle := flag.Duration("idle", time.Minute, "how long to watch an idle cluster")
	objects := flag.Int("objects", 5000, "how many ConfigMaps lists have")
	alone := flag.Bool("alone", false, "measure Clipper alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *clipper, *scratch, *idle, *objects, *alone); err != nil {
		log.Fatal(err)
	}
}

// side is a control plane that runs.
type side struct {
	name   string
	pids   []int
	config *rest.Config
	start  time.Duration // until it was ready
	stop   func() error
}

func run(ctx context.Context, clipper, scratch string, idle time.Duration, objects int, alone bool) error {
	var err error
	for _, p := range []*string{&clipper, &scratch} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return err
	}
	begin := []func() (*side, error){func() (*side, error) { return startClipper(ctx, clipper) }}
	if !alone {
		if err := buildUpstream(ctx, scratch); err != nil {
			return err
		}
		begin = append(begin, func() (*side, error) { return startUpstream(ctx, scratch) })
	}
	var columns []results
	for _, f := range begin {
		r, err := measureSide(ctx, f, idle, objects)
		if err != nil {
			return err
		}
		columns = append(columns, r)
	}
	printTable(columns)
	return nil
}

func measureSide(ctx context.Context, begin func() (*side, error), idle time.Duration, objects int) (results, error) {
	s, err := begin()
	if err != nil {
		return results{}, err
	}
	log.Printf("%s is ready after %s", s.name, s.start)
	r, err := measure(ctx, s, idle, objects)
	if stopErr := s.stop(); err == nil {
		err = stopErr
	}
	return r, err
}

func printTable(columns []results) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', 0)
	defer w.Flush()
	fmt.Fprint(w, "\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.side)
	}
	fmt.Fprintln(w)
	for i, row := range columns[0].rows {
		fmt.Fprintf(w, "%s\t", row.what)
		for _, c := range columns {
			fmt.Fprintf(w, "%s\t", c.rows[i].figure)
		}
		fmt.Fprintln(w)
	}
}
