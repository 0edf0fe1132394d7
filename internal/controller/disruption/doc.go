// Package disruption keeps the status of PodDisruptionBudgets: how many of the pods that each covers may be evicted now.
//
// In flow the budgets, pods, and the objects that own pods and say how many there should be; out flow the budgets' status, by which the
// eviction of a pod is allowed or refused, and the end of the condition DisruptionTarget on pods that were not deleted after all.
package disruption
