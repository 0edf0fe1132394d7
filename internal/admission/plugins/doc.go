// Package plugins holds the built-in admission plugins, one file each, and their order.
//
//	chain, err := plugins.Default(ctx, client, plugins.Options{Authorizer: az})
//
// What flows in are requests, and live sets of what they are judged by. What flows out is the object as it shall be stored, or
// upstream's refusal. A plugin's file has its type, Name, then Admit and Validate, then what they need.
package plugins
