// Package keeper is the daemon's side of the keeper: it starts one where none runs, and calls it.
//
//	client, err := keeper.Start(ctx, keeper.Options{Path: "/run/clipper/clipper-keeper", …})
//	started, err := client.StartContainer(ctx, &wire.Start{…})
//
// What flows in: the runtime's wishes. What flows out: calls of package wire, and the exits of
// containers as events. The keeper itself is internal/keeper/server; this package does not link it.
package keeper
