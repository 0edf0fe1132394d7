// Package images sees to it that the images of containers are on the node, and that those nobody needs go away.
//
//	p := images.NewPuller(images.PullerConfig{Images: runtime.Images, Events: recorder})
//	image, err := p.Ensure(ctx, images.Request{…})
//
// A pull policy, an image name and pull secrets flow in; the runtime's reference of an image that is present flows out, or an Error with upstream's
// waiting reason and, while pulling is backed off, the time at which it is worth trying again. Collector removes unused images, the
// least recently used first, when the disk gets full.
package images
