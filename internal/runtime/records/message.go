package records

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Message is a protobuf message that is kept for long and seldom looked at: in its encoding. As Go values a container's configuration
// takes some times as much, in dozens of pieces.
type Message[T any, M pointer[T]] struct{ encoded []byte }

// pointer is how a message of a generated type is held.
type pointer[T any] interface {
	*T
	proto.Message
}

// Encode keeps a message.
func Encode[T any, M pointer[T]](message M) (Message[T, M], error) {
	encoded, err := proto.Marshal(message)
	return Message[T, M]{encoded}, err
}

// Decode returns a message from its encoding, and keeps that.
func Decode[T any, M pointer[T]](encoded []byte) (M, Message[T, M], error) {
	message := M(new(T))
	err := proto.Unmarshal(encoded, message)
	return message, Message[T, M]{encoded}, err
}

// Bytes is the message's encoding: read-only.
func (m Message[T, M]) Bytes() []byte { return m.encoded }

// Full returns the message, which is the caller's own.
func (m Message[T, M]) Full() M {
	message := M(new(T))
	if err := proto.Unmarshal(m.encoded, message); err != nil {
		panic(fmt.Sprintf("decode what was encoded as %T: %v", message, err))
	}
	return message
}
