// Package wire puts together and takes apart the protobuf encodings of the API without decoding objects.
//
// What flows in and out are bytes: an object's message (as k8s.io/api's generated code marshals it), the
// envelope that it travels and is stored in (k8s\0 and a runtime.Unknown), lists of objects and the frames of a
// watch. SetResourceVersion rewrites the one field that the database decides and leaves every other byte alone.
package wire
