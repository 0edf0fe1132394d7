// Package checkpoint keeps small documents in files in the form that Kubernetes' kubelet reads and writes: JSON with a checksum.
//
//	sum := checkpoint.Sum(document, names)
//	err := checkpoint.Save(path, document)
//	err := checkpoint.Load(path, document)
//
// The checksum is taken over a dump of the Go value, in which the names of types occur. So that files can be exchanged with upstream's kubelet, Sum
// is told which names the types have there. A file is replaced as a whole: after a kill or a power cut there's the former one or the next one.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"

	"k8s.io/utils/dump"

	"clipper.dev/clipper/internal/durable"
)

// ErrCorrupt is the error of a document whose checksum is wrong.
var ErrCorrupt = errors.New("checkpoint is corrupted")

// Checksum is that of a document. While it is computed the document's own must be 0.
type Checksum uint64

// ownName is this type in a dump, upstreamName what it is called there.
const ownName, upstreamName = "checkpoint.Checksum", "checksum.Checksum"

// Sum returns a document's checksum. names lists pairs: the name of a type here, and upstream's.
func Sum(document any, names ...string) Checksum {
	text := strings.NewReplacer(append(names, ownName, upstreamName)...).Replace(dump.ForHash(document))
	h := fnv.New32a()
	h.Write([]byte(text))
	return Checksum(h.Sum32())
}

// Verify compares a document's checksum with the right one.
func Verify(have, want Checksum) error {
	if have != want {
		return fmt.Errorf("%w: its checksum is %d, that of its contents %d", ErrCorrupt, have, want)
	}
	return nil
}

// Load reads a document; the error is fs.ErrNotExist if there's none.
func Load(path string, document any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, document); err != nil {
		return fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	return nil
}

// Save replaces a document.
func Save(path string, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", path, err)
	}
	if err := durable.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}
