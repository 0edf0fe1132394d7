// Package shutdown gives pods time to end before the machine goes down.
//
//	m := shutdown.New(shutdown.Config{Periods: shutdown.Periods(30*time.Second, 10*time.Second), …})
//	err := m.Run(ctx)
//
// In flow systemd-logind's announcements, over D-Bus: a lock delays the shutdown until the pods have ended, those of the lowest priorities first,
// each priority in its own time. Out flow the ends of pods; while the machine goes down the node isn't ready and takes no pods.
package shutdown
