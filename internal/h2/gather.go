package h2

// gatherer runs what streams of one connection have to do at the same time, one after the other in one goroutine, and then sends what
// they have put down. A change that many of a connection's streams wait for so wakes one goroutine, and not one for each.
// The connection's gathering lock guards it.
type gatherer struct {
	posted  []func()
	spare   []func() // takes turns with posted
	running bool
}

// Gather has f called soon, beside the handler and together with what the connection's other streams have posted. f must not wait: it writes
// with Offer. The handler must not have returned, and what it and f both use is theirs to guard.
func (w *response) Gather(f func()) {
	c := w.stream.conn
	c.gathering.Lock()
	defer c.gathering.Unlock()
	c.gather.posted = append(c.gather.posted, f)
	if !c.gather.running {
		c.gather.running = true
		c.group.Go(c.runGathered)
	}
}

func (c *conn) runGathered() {
	for {
		c.gathering.Lock()
		posted := c.gather.posted
		c.gather.posted, c.gather.spare = c.gather.spare, nil
		if len(posted) == 0 {
			c.gather.running = false
			c.gathering.Unlock()
			return
		}
		c.gathering.Unlock()
		for _, f := range posted {
			f()
		}
		c.mu.Lock()
		c.flush()
		c.mu.Unlock()
		clear(posted)
		c.gathering.Lock()
		c.gather.spare = posted[:0]
		c.gathering.Unlock()
	}
}

// Offer writes p, which then is on its way, if that takes no waiting for this stream's client and p is no longer than a frame; otherwise it
// does nothing and returns false. It waits for nobody but the connection, which all its streams wait for.
func (w *response) Offer(p []byte) bool {
	c, s := w.stream.conn, w.stream
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		size := int64(len(p))
		if c.gone(s) != nil || !w.sent || w.ended || w.buffer != nil || size > min(int64(c.maxFrame), s.sendWindow, c.sendWindow) {
			return false
		}
		if len(c.out) < blockBytes {
			w.written += size
			c.putFrames(s, p, false)
			return true
		}
		if c.writing {
			c.changed.Wait()
		} else {
			c.flush()
		}
	}
}
