// Package csrcleaner deletes requests for certificates that nobody needs any more: answered ones after an hour, open ones after a
// day, and those whose certificate has expired.
package csrcleaner
