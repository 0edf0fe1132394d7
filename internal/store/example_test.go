package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "store-example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(ctx, store.Config{Dir: dir, ReserveBytes: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	defer s.Close()

	boats, err := s.AddTable(ctx, store.TableConfig{Prefix: "boats", Kind: storetest.Kind{}})
	if err != nil {
		panic(err)
	}
	watch, err := boats.Watch(ctx, store.WatchOptions{FromNow: true, Namespace: "harbour"})
	if err != nil {
		panic(err)
	}
	defer watch.Stop()

	boat := storetest.Named("harbour", "cutty-sark", "a clipper")
	revision, err := boats.Create(ctx, "harbour/cutty-sark", boat.Value(), store.WriteOptions{})
	if err != nil {
		panic(err)
	}
	if _, err := boats.Delete(ctx, "harbour/cutty-sark", revision); err != nil {
		panic(err)
	}

	for range 2 {
		events, _, err := watch.Next(ctx)
		if err != nil {
			panic(err)
		}
		for _, ev := range events {
			fmt.Println(ev.Type, ev.Entry().Key())
		}
		if events[len(events)-1].Type == store.Deleted {
			break
		}
	}
	// Output:
	// ADDED harbour/cutty-sark
	// DELETED harbour/cutty-sark
}
