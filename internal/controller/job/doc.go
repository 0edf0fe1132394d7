// Package job runs the pods of Jobs until enough of them have succeeded, or too many have failed.
//
// In flow Jobs and pods; out flow pods and the Jobs' status. Every pod that ends is counted exactly once, even across a crash: it carries the
// finalizer batch.kubernetes.io/job-tracking until its UID stands in the status as not yet counted; then the finalizer goes; then the pod
// is counted and its UID leaves the status. The decision is pure: makePlan returns the next status and what to create, delete and untrack.
package job
