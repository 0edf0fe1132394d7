package cri

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// relistWithEvents is the safety net, relistWithout the means, of seeing changes.
	relistWithEvents = time.Minute
	relistWithout    = time.Second
)

// Watch calls changed for each pod of which the runtime has news, until ctx ends. health is called with the outcome of each list.
func (c *Client) Watch(ctx context.Context, changed func(types.UID), health func(error)) error {
	streams := make(chan bool) // true: events come; false: they don't
	ended := make(chan error, 1)
	go func() { ended <- c.stream(ctx, changed, streams) }()
	interval := relistWithout
	last := map[types.UID]*Summary{}
	var looked time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return <-ended
		case on := <-streams:
			interval = relistWithout
			if on {
				interval = relistWithEvents
			}
			timer.Reset(0) // what happened before the stream began
		case <-timer.C:
			began := time.Now()
			now, err := c.List(ctx)
			c.metrics.listed(began, looked)
			looked = began
			health(err)
			if err == nil {
				compare(last, now, changed)
				last = now
			}
			timer.Reset(interval)
			if err != nil {
				timer.Reset(relistWithout)
			}
		}
	}
}

func compare(last, now map[types.UID]*Summary, changed func(types.UID)) {
	for uid, s := range now {
		if !s.Equal(last[uid]) {
			changed(uid)
		}
	}
	for uid := range last {
		if now[uid] == nil {
			changed(uid)
		}
	}
}

// stream receives the runtime's events for as long as it offers them. A runtime that doesn't implement them isn't asked again.
func (c *Client) stream(ctx context.Context, changed func(types.UID), streams chan<- bool) error {
	announce := func(on bool) {
		select {
		case streams <- on:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		received, err := c.receive(ctx, changed, announce)
		announce(false)
		switch {
		case ctx.Err() != nil:
			return nil
		case status.Code(err) == codes.Unimplemented:
			c.logger.Info("the runtime offers no events, listing instead", "interval", relistWithout)
			return nil
		}
		c.logger.Warn("the runtime's event stream broke", "error", err)
		delay := relistWithout
		if !received {
			delay = relistWithEvents // switched off, by the look of it
			if status.Code(err) == codes.Unavailable {
				delay = relistWithout
			}
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	return nil
}

// receive passes events on until the stream breaks; received tells whether there was any.
func (c *Client) receive(ctx context.Context, changed func(types.UID), announce func(bool)) (received bool, err error) {
	stream, err := c.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	c.metrics.streamed(err)
	if err != nil {
		return false, fmt.Errorf("open the runtime's event stream: %w", err)
	}
	announce(true)
	for {
		e, err := stream.Recv()
		if err != nil {
			return received, err
		}
		received = true
		c.metrics.event(e.CreatedAt)
		if ownDoing(e.ContainerEventType) {
			continue
		}
		if uid := e.GetPodSandboxStatus().GetMetadata().GetUid(); uid != "" {
			changed(types.UID(uid))
		}
	}
}

// ownDoing tells whether an event only repeats what the kubelet has just done itself.
func ownDoing(kind runtimeapi.ContainerEventType) bool {
	return kind == runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT || kind == runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT
}
