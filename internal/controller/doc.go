// Package controller runs controllers: functions that bring the world to what an object asks for, one key at a time.
//
//	err := controller.Run(ctx, controller.Options{Client: engine.ClientFor, Elector: leader, Logger: log}, []controller.Constructor{
//		{Name: "replicaset", New: replicaset.New},
//		{Name: "deployment", New: deployment.New},
//	})
//
// What flows in are the Views that a controller declares as Inputs; each change in them becomes keys. What flows out are the
// writes that Reconcile makes with its client. Between the two the runner keeps, for each controller, a queue in which a key lies at most
// once and is worked on by one worker at a time, and retries a failed key with exponential backoff.
//
// Reconcile is level-based: it gets a key, never an event, and looks at the world as it is. It reads its own writes: a key is
// not handed out again before the inputs have reached the revision of that key's last write, so no controller keeps
// expectations of what it created or deleted. And it is fenced: the controllers run where the Elector says so, each of their writes is
// conditional on that leadership, and when it is lost their workers are cancelled and waited for.
package controller
