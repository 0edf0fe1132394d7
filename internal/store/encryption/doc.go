// Package encryption encrypts values at rest as kube-apiserver does, so that either can open the other's database.
//
//	c, err := encryption.Open(ctx, encryption.Options{Path: path, Create: true}) // the first start makes a file that encrypts Secrets
//	table.Transformer = c.For(schema.GroupResource{Resource: "secrets"})
//	err = c.Run(ctx) // follows the keys of KMS plugins, and the file
//
// What flows in is an EncryptionConfiguration file (apiserver.config.k8s.io/v1). For each resource it lists providers: the first
// encrypts what is written, each of them decrypts what it once wrote. What flows out are store.Transformers. A value begins with its
// provider's name and its key's ("k8s:enc:secretbox:v1:key1:"), then comes the ciphertext; one that was not written by the first key is
// reported as stale, so that it's written anew with the object's next write.
//
// A KMS plugin (v2, over gRPC) keeps its key to itself: it encrypts a seed, from which a key for each value is derived, and the encrypted seed is
// stored with the value. The plugin is asked once a minute which key is its own. When that is another, a new seed is made; when it doesn't say so for three
// minutes, writing stops and reading goes on.
package encryption
