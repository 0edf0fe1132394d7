package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"clipper.dev/clipper/internal/h2"
)

type whole interface{ Whole() ([]byte, bool) }

func TestAShortBodyOfKnownLengthIsHandedOver(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		body, ok := r.Body.(whole).Whole()
		w.Header().Set("Whole", strconv.FormatBool(ok))
		rest, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if _, err := w.Write(append(body, rest...)); err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct {
		bytes   int
		unknown bool
		whole   bool
	}{{1, false, true}, {900, false, true}, {20000, false, true}, {32768, false, true}, {32769, false, false}, {900, true, false}} {
		sent := random(test.bytes)
		reader := io.Reader(bytes.NewReader(sent))
		if test.unknown {
			reader = io.MultiReader(reader)
		}
		resp, err := client.Post(url, "x/y", reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, sent) || resp.Header.Get("Whole") != strconv.FormatBool(test.whole) {
			t.Errorf("%+v: %d bytes came back, whole %s, %v", test, len(got), resp.Header.Get("Whole"), err)
		}
	}
}

func TestABodyThatDoesNotComeIsNotHandedOver(t *testing.T) {
	failed := make(chan error, 1)
	url, _ := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		if body, ok := r.Body.(whole).Whole(); ok {
			t.Errorf("%q was handed over", body)
		}
		got, err := io.ReadAll(r.Body)
		if string(got) != "half" {
			t.Errorf("%q was read", got)
		}
		failed <- err
	})
	c := dial(t, url)
	c.headers(1, false, hpack.HeaderField{Name: "content-length", Value: "8"})
	c.try(c.framer.WriteData(1, false, []byte("half")))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the body ended with %v", err)
	}
}
