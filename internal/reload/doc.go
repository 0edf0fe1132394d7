// Package reload keeps a configuration file in force: when its content changes, it is applied, and how that went is counted.
//
//	f := reload.File{Path: path, Current: data, Apply: apply, Metrics: metrics, Logger: log}
//	err := f.Run(ctx) // until ctx ends
//
// What flows in are the file's changes, by notice of the kernel and, as a safety net, by a look every minute. What flows out are calls of
// Apply with the new content. Content that Apply refuses is reported, and the former stays in force.
package reload
