package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Age is how long ago a moment was, as printed columns show it: "5m", or "<unknown>" for no moment at all.
func Age(since metav1.Time, p PrintOptions) string {
	if since.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(p.Now.Sub(since.Time))
}
