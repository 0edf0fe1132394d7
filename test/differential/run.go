package main

import (
	"context"
	"log"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"
)

// findings are what a run has found.
type findings struct {
	mu        sync.Mutex
	requests  int
	differing int
	all       []difference
}

func (f *findings) add(requests, differing int, d []difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests += requests
	f.differing += differing
	f.all = append(f.all, d...)
}

// runAll runs scripts, some at the same time, phase after phase: a phase finds what the former ones have left. When ctx ends early,
// what was found until then is returned with the error.
func runAll(ctx context.Context, b *sides, phases [][]script, clients int) (*findings, error) {
	found := &findings{}
	for i, scripts := range phases {
		if i == len(phases)-1 {
			if err := sleep(ctx, settled); err != nil {
				return found, err
			}
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(clients)
		for _, s := range scripts {
			if ctx.Err() != nil {
				break
			}
			g.Go(func() error { return runScript(ctx, b, s, found) })
		}
		if err := g.Wait(); err != nil {
			return found, err
		}
	}
	return found, ctx.Err()
}

func runScript(ctx context.Context, b *sides, s script, found *findings) error {
	var vars [2]map[string]string
	for i := range vars {
		vars[i] = map[string]string{}
	}
	requests, differing := 0, 0
	var all []difference
	for _, st := range s.steps {
		answers := askBoth(ctx, b, st, vars)
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range answers {
			remember(answers[i], st.capture, vars[i])
		}
		if st.silent {
			continue
		}
		if s.name == storing && answers[0].code >= http.StatusBadRequest {
			log.Printf("upstream refuses a fixture: %s %s: %s", st.method, st.path, answers[0].body)
		}
		requests++
		if d := compare(b, s, st, vars, answers); len(d) > 0 {
			differing++
			all = append(all, d...)
		}
	}
	found.add(requests, differing, all)
	return nil
}

func askBoth(ctx context.Context, b *sides, st step, vars [2]map[string]string) (out [2]answer) {
	var wg sync.WaitGroup
	for i := range b.each {
		wg.Go(func() { out[i] = ask(ctx, b.each[i], st, vars[i]) })
	}
	wg.Wait()
	return out
}
