package wire

import "google.golang.org/protobuf/encoding/protowire"

// maxDepth is how deep messages may lie in messages: as deep as values in JSON.
const maxDepth = 10000

// TooDeep tells whether messages lie in messages deeper than the generated code, which recurses, can read with the stack that a process has.
// It follows the largest part of each message: what is deep enough to hurt takes most of a request's bytes.
func TooDeep(msg []byte) bool {
	for range maxDepth {
		var largest []byte
		for len(msg) > 0 {
			number, kind, n := protowire.ConsumeTag(msg)
			if n < 0 {
				break
			}
			size := protowire.ConsumeFieldValue(number, kind, msg[n:])
			if size < 0 {
				break
			}
			if kind == protowire.BytesType {
				if part, _ := protowire.ConsumeBytes(msg[n:]); len(part) > len(largest) {
					largest = part
				}
			}
			msg = msg[n+size:]
		}
		if len(largest) == 0 {
			return false
		}
		msg = largest
	}
	return true
}
