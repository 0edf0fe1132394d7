// Package image keeps container images on a node.
//
//	store, err := image.Open("/var/lib/clipper/images", logger)
//	img, err := store.Pull(ctx, "docker.io/library/nginx:1.27", registries.For(auth))
//	names, err := store.Import(ctx, archive)
//
// An image is a configuration and a chain of layers. A layer lies unpacked in a folder of its own,
// ready to be a lower layer of an overlay mount, named by its chain ID, and is shared by all images
// that begin with the same chain. Images, their names and digests are in one index file, which is
// replaced as a whole. The order of writing makes a crash harmless at any instant: layers are
// unpacked into a temporary folder, renamed, flushed to the disk, and only then named in the index;
// what the index does not name is deleted when the store is opened.
//
// What flows in: references and archives, from registries and people that are not trusted: digests
// are verified, and no entry of a layer can reach outside its folder. What flows out: the folders of a
// root file system, and what the Container Runtime Interface wants to know of an image.
package image
