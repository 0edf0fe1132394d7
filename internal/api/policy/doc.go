// Package policy has the row of PodDisruptionBudget. The eviction that spends a budget is a subresource of pods and stands with them.
package policy
