package cluster

import (
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/deployment"
	"clipper.dev/clipper/internal/controller/replicaset"
)

// controllers lists every controller of the control plane.
func controllers(_ *server) []controller.Constructor {
	return []controller.Constructor{
		{Name: "deployment", New: deployment.New},
		{Name: "replicaset", New: replicaset.New},
		{Name: "replication", New: replicaset.NewReplicationController},
	}
}
