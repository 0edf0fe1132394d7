// Package ttlafterfinished deletes Jobs when the time has passed that spec.ttlSecondsAfterFinished gives them after their end.
package ttlafterfinished
