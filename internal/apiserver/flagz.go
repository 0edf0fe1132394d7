package apiserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// flagzObject is what /flagz tells programs, in both its versions.
type flagzObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Flags             map[string]string `json:"flags,omitempty"`
}

// flagz tells with which flags the server runs.
func (s *Server) flagz() zpage {
	return zpage{
		name: "flagz", kind: "Flagz",
		text: func(delimiter string) string {
			var out strings.Builder
			for _, name := range slices.Sorted(maps.Keys(s.cfg.Flags)) {
				fmt.Fprintf(&out, "%s%s%s\n", name, delimiter, s.cfg.Flags[name])
			}
			return out.String()
		},
		object: func(t metav1.TypeMeta, m metav1.ObjectMeta) any { return flagzObject{t, m, s.cfg.Flags} },
	}
}
