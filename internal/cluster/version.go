package cluster

// Version is Clipper's; the build sets it.
var Version = "v0.1.0"

// KubernetesVersion is the version whose API is served.
const KubernetesVersion = "v1.36.3"
