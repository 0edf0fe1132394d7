// Package container knows what a container is made of: the record that is kept of it, and how the
// configuration of the Container Runtime Interface, the image and the sandbox become a specification
// in OCI's terms, which the keeper executes.
//
// What flows in: a ContainerConfig, an image, a sandbox. What flows out: the request to the keeper, the
// container's effective user, and its status. Nothing here starts anything.
package container
