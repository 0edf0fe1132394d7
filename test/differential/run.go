package main

import (
	"cmp"
	"context"
	"encoding/json"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

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

// runPhases runs scripts, phase after phase: a phase finds what the former ones have left.
func (f *findings) runPhases(ctx context.Context, b *sides, phases [][]script, clients int) error {
	for i, scripts := range phases {
		if i > 0 {
			if err := sleep(ctx, settled); err != nil {
				return err
			}
		}
		if err := f.run(ctx, b, scripts, clients); err != nil {
			return err
		}
	}
	return nil
}

// run runs scripts, some at the same time.
func (f *findings) run(ctx context.Context, b *sides, scripts []script, clients int) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(clients)
	for _, s := range scripts {
		if inner.Err() != nil {
			break
		}
		g.Go(func() error { return runScript(inner, b, s, f) })
	}
	return cmp.Or(g.Wait(), ctx.Err())
}

func runScript(ctx context.Context, b *sides, s script, found *findings) error {
	var vars [2]map[string]string
	for i := range vars {
		vars[i] = map[string]string{}
	}
	requests, differing := 0, 0
	var all []difference
	for _, st := range s.steps {
		if st.key != "" {
			if err := b.database.put(ctx, st.key, st.body); err != nil {
				return err
			}
			defer b.database.delete(context.WithoutCancel(ctx), st.key)
			continue
		}
		if st.until != "" {
			if err := await(ctx, b.each[0], st); err != nil {
				return err
			}
			continue
		}
		answers := askBoth(ctx, b, st, vars)
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range answers {
			remember(answers[i], st.capture, vars[i])
		}
		if st.premise != 0 && st.premise != answers[0].code {
			break
		}
		if st.silent {
			continue
		}
		if s.name == storing && answers[0].code >= http.StatusBadRequest {
			log.Printf("upstream refuses a fixture: %s %s: %s", st.method, st.path, answers[0].body)
		}
		requests++
		d := compare(b, s, st, vars, answers)
		if slices.ContainsFunc(d, missesBookmark) {
			st.path = strings.Replace(st.path, briefly, patiently, 1)
			d = compare(b, s, st, vars, askMeanwhile(ctx, b, st, vars))
		}
		if len(d) > 0 {
			differing++
			all = append(all, d...)
		}
	}
	found.add(requests, differing, all)
	return nil
}

// A watch lasts a second. A busy server's bookmarks may come later, and a quiet one has nothing to tell: where one side's is missing, both are
// asked again and given time, while something is written, and the objects are listed: upstream tells what its cache of these objects knows, which
// learns of other kinds' changes only from a list that needs to be as new.
const briefly, patiently = "timeoutSeconds=1&", "timeoutSeconds=15&"

func missesBookmark(d difference) bool {
	return d.Sort == "event" && isBookmark(d.Upstream+d.Clipper)
}

// askMeanwhile asks both while a namespace changes on each, and the objects are listed: a few times, since on a busy machine one side may begin
// later than the other.
func askMeanwhile(ctx context.Context, b *sides, st step, vars [2]map[string]string) (out [2]answer) {
	var wg sync.WaitGroup
	wg.Go(func() {
		path, _, _ := strings.Cut(st.path, "?")
		for range 3 {
			if sleep(ctx, 3*time.Second) != nil {
				return
			}
			change := mergePatch("/api/v1/namespaces/default", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"changed": time.Now()}}})
			change.path = strings.TrimSuffix(change.path, dryRun)
			askBoth(ctx, b, change, vars)
			askBoth(ctx, b, get(path), vars)
		}
	})
	out = askBoth(ctx, b, st, vars)
	wg.Wait()
	return out
}

// await asks until the answer has a value at st.until, or the server has had the time that it may take.
func await(ctx context.Context, s *side, st step) error {
	for end := time.Now().Add(settled); time.Now().Before(end); {
		var body any
		if a := ask(ctx, s, st, nil); json.Unmarshal(a.body, &body) == nil {
			if _, ok := placed(body, strings.Split(st.until, ".")); ok {
				return nil
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
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
