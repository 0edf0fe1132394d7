// Package logs reads and rotates the logs that a container runtime writes.
//
//	err := logs.Read(ctx, path, logs.Options{Follow: true, Tail: &ten, Done: exited}, stdout, stderr)
//
// A log file holds a line for each write: time, stream, a tag (P for a part of a line, F for a full one or its end) and the text. Behind cri-dockerd
// the path is a link to a file of Docker's, whose lines are JSON.
// Read gives the text back, from the first line that is asked for; following sleeps on file system events and goes on in the new file
// after a rotation. Rotator keeps files small: it renames a file that has grown too long, lets the runtime open a new one, compresses old ones and
// deletes the oldest.
package logs
