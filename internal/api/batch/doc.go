// Package batch has the rows of batch.
package batch
