// Package apps holds the rows of the API group apps.
package apps
