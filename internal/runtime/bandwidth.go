package runtime

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/resource"
)

// bandwidth reads a pod's annotation in bits per second; an empty one is no limit.
func bandwidth(value string) (int64, error) {
	if value == "" {
		return 0, nil
	}
	quantity, err := resource.ParseQuantity(value)
	if err != nil {
		return 0, fmt.Errorf("read bandwidth annotation %q: %w", value, err)
	}
	bits := quantity.Value()
	if bits < 1000 || bits > 1e15 {
		return 0, fmt.Errorf("bandwidth annotation %q is out of range: from 1k to 1P", value)
	}
	return bits, nil
}

func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }
