// Package patch applies JSON patches, merge patches and strategic merge patches to objects. In flow the object in
// the version that the patch was written for and the patch; out flows the patched object, with what a strict
// decoder has to say about the patch.
package patch
