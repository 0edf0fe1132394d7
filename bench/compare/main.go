// Command compare measures Clipper beside upstream's own components, on the same machine in the same run, and prints one table.
//
//	compare -clipper bin/clipper -scratch out/bench
//	compare -clipper bin/clipper -scratch out/bench -clipper-only -rows pod,hundred
//
// Upstream's programs are built from their modules in the scratch folder once. Each side is started, measured and stopped by itself, so
// that neither disturbs the other. CPU is what the kernel accounted to the servers' processes, not to the client.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options say what a run measures.
type options struct {
	clipper, scratch string // the program, and a folder
	demo             string // the archive of the image that pods run
	idle             time.Duration
	objects          int
	only             string // a side, or both if empty
	rows             []string
}

func main() {
	var o options
	flag.StringVar(&o.clipper, "clipper", "bin/clipper", "the program to measure")
	flag.StringVar(&o.scratch, "scratch", "out/bench", "folder for upstream's programs, for data and for the results")
	flag.StringVar(&o.demo, "demo", "internal/demo/image/demo.tar", "archive of the demonstration image")
	flag.StringVar(&clusterName, "name", clusterName, "the name of Clipper's measured cluster")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long to watch an idle cluster")
	flag.IntVar(&o.objects, "objects", 5000, "how many ConfigMaps lists have")
	clipperOnly := flag.Bool("clipper-only", false, "measure Clipper alone")
	upstreamOnly := flag.Bool("upstream-only", false, "measure upstream alone")
	rows := flag.String("rows", "", "measure only these rows: "+strings.Join(groupNames(), ","))
	flag.Parse()
	switch {
	case *clipperOnly:
		o.only = clipperSide
	case *upstreamOnly:
		o.only = upstreamSide
	}
	if *rows != "" {
		o.rows = strings.Split(*rows, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	for _, p := range []*string{&o.clipper, &o.scratch, &o.demo} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if err := checkRows(o.rows); err != nil {
		return err
	}
	if err := os.MkdirAll(o.scratch, 0o755); err != nil {
		return err
	}
	t := newTable()
	if o.only != clipperSide {
		if err := buildUpstream(ctx, o.scratch); err != nil {
			t.Failures, o.only = append(t.Failures, failure{upstreamSide, "build", err.Error()}), clipperSide
		}
	}
	err := measure(ctx, o, t)
	t.print(os.Stdout) // of a run that was interrupted too: what it has measured counts
	return errors.Join(err, t.save(filepath.Join(o.scratch, "results")))
}

// measure fills the table with all the rows that are wanted.
func measure(ctx context.Context, o options, t *table) error {
	if len(o.rows) == 0 || wanted(o.rows, "floor") {
		r := results{side: floorColumn}
		if err := measureFloor(ctx, o.scratch, &r); err != nil {
			r.fail("floor", err)
		}
		t.merge(r)
	}
	for _, stage := range stages {
		for _, b := range stage.sides {
			if o.only != "" && o.only != b.name {
				continue
			}
			r := results{side: b.name}
			measureStage(ctx, o, stage.groups, b.begin, &r)
			t.merge(r)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// measureStage starts a side, measures the groups of rows that are wanted, and stops it. What fails is told in its row, and the rest goes on.
func measureStage(ctx context.Context, o options, groups []group, begin func(context.Context, options) (*side, error), r *results) {
	var chosen []group
	for _, g := range groups {
		if len(o.rows) == 0 || wanted(o.rows, g.names...) {
			chosen = append(chosen, g)
		}
	}
	if len(chosen) == 0 {
		return
	}
	s, err := begin(ctx, o)
	if err != nil {
		for _, g := range chosen {
			r.fail(g.names[0], fmt.Errorf("%s does not start: %w", r.side, err))
		}
		return
	}
	log.Printf("%s is ready after %.2f s", s.name, s.start.Seconds())
	for _, g := range chosen {
		log.Printf("%s: measuring %s", s.name, strings.Join(g.names, ", "))
		if err := g.measure(ctx, o, s, r); err != nil {
			r.fail(g.names[0], err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := s.stop(); err != nil {
		r.fail("stop", err)
	}
}
