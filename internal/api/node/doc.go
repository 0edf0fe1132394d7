// Package node has the rows of node.k8s.io.
package node
