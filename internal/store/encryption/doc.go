// Package encryption encrypts values at rest as kube-apiserver does, so that either can open the other's database.
//
//	cfg, err := encryption.OpenOrCreate(path) // an EncryptionConfiguration; the first start makes one that encrypts Secrets
//	table.Transformer = cfg.For(schema.GroupResource{Resource: "secrets"})
//
// What flows in is an EncryptionConfiguration file (apiserver.config.k8s.io/v1). For each resource it lists providers: the first
// encrypts what is written, each of them decrypts what it once wrote. What flows out are store.Transformers. A value begins with its
// provider's name and its key's ("k8s:enc:secretbox:v1:key1:"), then comes the ciphertext; one that was not written by the first key is
// reported as stale, so that it's written anew with the object's next write.
package encryption
