// Package tokencleaner deletes bootstrap tokens that have expired.
package tokencleaner
