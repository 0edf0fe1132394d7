// Package packed makes gzip streams of lists out of compressed runs of items that it keeps, so that a list is
// compressed again only where it has changed.
//
//	var cache packed.Cache
//	err := cache.WriteGzip(w, "v1 ConfigMap protobuf", head, items, tail)
//
// Runs end where the hash of an item's version says so. A change therefore touches the run that it lies in and no other,
// and lists that share a run of items share its compressed form. The result is one ordinary gzip member: each run is
// deflated by itself up to a byte boundary, and the check sums of the parts are combined into that of the whole.
package packed
