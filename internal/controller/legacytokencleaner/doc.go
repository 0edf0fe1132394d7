// Package legacytokencleaner removes service account tokens that Kubernetes once made by itself, in Secrets, and that nobody has used for a
// year: first it marks such a Secret as invalid, so that its token is refused, and when another such time has passed it deletes it.
//
// In flow token Secrets with the day of their last use, the accounts that list them, pods that mount them and the day since when uses are noted
// (package legacytokentracking); out flow labels and deletions.
package legacytokencleaner
