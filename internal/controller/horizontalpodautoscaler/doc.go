// Package horizontalpodautoscaler gives workloads as many replicas as their metrics ask for.
//
// In flow HorizontalPodAutoscalers and pods; the target's scale and the metrics come over the API, since both may be served elsewhere
// (custom resources, aggregated servers). Out flow the target's scale, and the autoscaler's status and events.
//
// Each interval a round goes like this. Every metric of the spec is read (sources.go) and proposes a number of replicas (replicas.go); the
// largest wins. What was recommended lately steadies it, and policies bound how fast it may change (limits.go). The proposals and limits are pure.
package horizontalpodautoscaler
