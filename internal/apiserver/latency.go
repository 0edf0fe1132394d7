package apiserver

import (
	"sync/atomic"
	"time"
)

// A layer is a part of the server that a request spends time in.
type layer int

const (
	inAuthentication layer = iota
	inImpersonation
	inQueue
	inAuthorization
	inStorage
	inMutatingWebhooks
	inValidatingWebhooks
	inSerialization
	inResponse
	layers
)

// layerNames are upstream's names of the layers, in the audit's annotations.
var layerNames = [layers]string{
	inAuthentication: "authentication", inImpersonation: "impersonation", inQueue: "apf-queue-wait", inAuthorization: "authorization", inStorage: "etcd",
	inMutatingWebhooks: "mutating-webhook", inValidatingWebhooks: "validating-webhook", inSerialization: "serialize-response-object", inResponse: "response-write",
}

// spent is the time that a request has spent in each layer. Watches write it from goroutines of their own.
type spent [layers]atomic.Int64

func (s *spent) add(l layer, d time.Duration) { s[l].Add(int64(d)) }

// elsewhere is the time that requests spend on what isn't the server's fault: webhooks and other requests.
func (s *spent) elsewhere() time.Duration {
	return time.Duration(s[inQueue].Load() + s[inMutatingWebhooks].Load() + s[inValidatingWebhooks].Load())
}

// slow is from when on the audit says where a request spent its time.
const slow = 500 * time.Millisecond

// annotations tell where a slow request spent its time.
func (s *spent) annotations(total time.Duration) map[string]string {
	if total <= slow {
		return nil
	}
	const prefix = "apiserver.latency.k8s.io/"
	out := map[string]string{prefix + "total": total.String()}
	for l, name := range layerNames {
		if d := time.Duration(s[l].Load()); d != 0 {
			out[prefix+name] = d.String()
		}
	}
	return out
}
