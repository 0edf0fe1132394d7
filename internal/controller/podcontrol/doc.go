// Package podcontrol is what the controllers that run pods have in common: it makes pods from templates, writes and deletes
// them with the events that people look for, and tells which pods are active, ready, available, and which to delete first.
package podcontrol
