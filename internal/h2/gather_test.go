package h2_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"clipper.dev/clipper/internal/h2"
)

// gatherer is what a response offers beside what net/http knows.
type gatherer interface {
	Gather(f func())
	Offer(p []byte) bool
}

func TestWhatStreamsGatherArrivesWholeAndInOrder(t *testing.T) {
	const streams, lines = 100, 200
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
			return
		}
		var turn sync.Mutex
		var refused []string
		var gathered sync.WaitGroup
		for i := range lines {
			gathered.Add(1)
			w.(gatherer).Gather(func() {
				defer gathered.Done()
				turn.Lock()
				defer turn.Unlock()
				line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", i*10))
				if len(refused) > 0 || !w.(gatherer).Offer([]byte(line)) {
					refused = append(refused, line)
				}
			})
		}
		gathered.Wait()
		for _, line := range refused {
			if _, err := io.WriteString(w, line); err != nil {
				t.Error(err)
			}
		}
	})
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "%d %s\n", i, strings.Repeat("x", i*10))
	}
	var group sync.WaitGroup
	for range streams {
		group.Go(func() {
			if _, body := get(t, client, url); string(body) != want.String() {
				t.Errorf("%d bytes came, not the %d that were written", len(body), want.Len())
			}
		})
	}
	group.Wait()
}

func TestAnOfferThatDoesNotFitTheClientsWindowIsRefused(t *testing.T) {
	url, _ := serve(t, new(h2.Server), func(w http.ResponseWriter, _ *http.Request) {
		if w.(gatherer).Offer([]byte("early")) {
			t.Error("a response without headers took an offer")
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		var gathered sync.WaitGroup
		gathered.Add(1)
		w.(gatherer).Gather(func() {
			defer gathered.Done()
			if !w.(gatherer).Offer([]byte("12345678")) {
				t.Error("what fits the window was refused")
			}
			if w.(gatherer).Offer([]byte("123")) {
				t.Error("what does not fit the window was taken")
			}
		})
		gathered.Wait()
		_, _ = io.WriteString(w, "end")
	})
	c := dial(t, url, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	c.until(http2.FrameSettings)
	c.headers(1, true)
	var got strings.Builder
	for got.Len() < len("12345678end") {
		got.Write(c.until(http2.FrameData).(*http2.DataFrame).Data())
		c.try(c.framer.WriteWindowUpdate(1, 10))
	}
	if got.String() != "12345678end" {
		t.Errorf("got %q", got.String())
	}
}
