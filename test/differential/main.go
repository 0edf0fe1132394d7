package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	clipper, upstream, scratch string
	seed                       uint64
	kinds, fields, only        *regexp.Regexp
	max, clients               int
	deepest, stored            int
}

func main() {
	log.SetFlags(log.Ltime)
	var o options
	flag.StringVar(&o.clipper, "clipper", "bin/clipper", "the program to hold against upstream")
	flag.StringVar(&o.upstream, "upstream", "out/bench", "folder of upstream's etcd and kube-apiserver, which are built there if they are missing")
	flag.StringVar(&o.scratch, "scratch", "out/differential", "folder for upstream's data and for the report")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of everything that is chosen at random")
	flag.IntVar(&o.max, "max", 0, "how many scripts to run at most, a sample chosen with the seed; 0 is all")
	flag.IntVar(&o.clients, "clients", 4, "how many scripts run at the same time")
	flag.IntVar(&o.deepest, "template", 20, "of the fields of pod templates outside pods, one in so many is tried")
	flag.IntVar(&o.stored, "stored", 10, "of the fields of built-in kinds, one in so many is stored with values that no server accepts; 0 tries no stored objects at all")
	kinds := flag.String("kinds", "", "try only resources that match, like ^apps/v1/deployments$")
	fields := flag.String("fields", "", "try only fields that match, like ^spec.strategy")
	only := flag.String("only", "", "run only scripts whose names match")
	flag.Parse()
	for _, p := range []struct {
		to   **regexp.Regexp
		text string
	}{{&o.kinds, *kinds}, {&o.fields, *fields}, {&o.only, *only}} {
		re, err := regexp.Compile(p.text)
		if err != nil {
			log.Fatal(err)
		}
		*p.to = re
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	same, err := run(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	if !same {
		os.Exit(1)
	}
}

// run starts both sides, compares them and writes the report. It tells whether all differences are accepted ones.
func run(ctx context.Context, o options) (same bool, err error) {
	for _, p := range []*string{&o.clipper, &o.upstream, &o.scratch} {
		if *p, err = filepath.Abs(*p); err != nil {
			return false, err
		}
	}
	accepted, err := readAccepted()
	if err != nil {
		return false, err
	}
	both, err := startBoth(ctx, o)
	if err != nil {
		return false, err
	}
	defer both.stop()
	began := time.Now()
	found := &findings{}
	if err = found.compareAll(ctx, o, both); err != nil {
		log.Printf("ended early: %v", err)
	}
	log.Printf("%d requests in %s", found.requests, time.Since(began).Round(time.Second))
	same, writeErr := writeReports(o.scratch, accepted, found)
	return same, errors.Join(err, writeErr)
}

// compareAll compares what both make of requests, each on its own database, and then what they make of one that has been tampered with. When
// it ends early, what was found until then stays.
func (f *findings) compareAll(ctx context.Context, o options, b *sides) error {
	resources, err := readResources(ctx, b.each[0])
	if err != nil {
		return err
	}
	phases, err := prepare(ctx, o, b, resources)
	if err != nil {
		return err
	}
	for _, scripts := range phases {
		log.Printf("%d scripts", len(scripts))
	}
	if err := f.runPhases(ctx, b, phases, o.clients); err != nil {
		return err
	}
	f.compareMetrics(ctx, b)
	if o.stored == 0 {
		return nil
	}
	if err := b.share(ctx); err != nil {
		return err
	}
	scripts, err := storedPhase(ctx, o, b, resources)
	if err != nil {
		return err
	}
	return f.run(ctx, b, scripts, o.clients)
}

// writeReports writes the whole report and all differences to files, and the report's head to the standard output.
func writeReports(dir string, accepted []acceptance, found *findings) (same bool, err error) {
	r := newReport(accepted, found)
	text, lines := filepath.Join(dir, "report.txt"), filepath.Join(dir, "differences.json")
	err = errors.Join(
		writeFile(text, func(w io.Writer) error { r.write(w, 0); return nil }),
		writeFile(lines, r.writeLines),
	)
	if err != nil {
		return false, fmt.Errorf("write the report: %w", err)
	}
	r.write(os.Stdout, 25)
	fmt.Printf("The whole report: %s, each difference: %s\n", text, lines)
	return len(r.groups) == 0, nil
}

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	return errors.Join(write(w), w.Flush(), file.Close())
}
