package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// database is an etcd, spoken to through its gateway: what no server would store is put there.
type database struct{ url string }

type keyValue struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

func (d database) put(ctx context.Context, key string, value []byte) error {
	return d.call(ctx, "put", keyValue{Key: []byte(key), Value: value}, nil)
}

func (d database) delete(ctx context.Context, key string) error {
	return d.call(ctx, "deleterange", keyValue{Key: []byte(key)}, nil)
}

// page is how many objects are read at once.
const page = 500

// all returns what is stored below a prefix that ends with a slash.
func (d database) all(ctx context.Context, prefix string) (out []keyValue, err error) {
	end := []byte(prefix[:len(prefix)-1] + "0") // what follows the slash
	for from := []byte(prefix); ; {
		var found struct {
			KVs  []keyValue `json:"kvs"`
			More bool       `json:"more"`
		}
		if err := d.call(ctx, "range", map[string]any{"key": from, "range_end": end, "limit": page}, &found); err != nil {
			return nil, err
		}
		out = append(out, found.KVs...)
		if !found.More {
			return out, nil
		}
		from = append(bytes.Clone(out[len(out)-1].Key), 0)
	}
}

func (d database) call(ctx context.Context, method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/v3/kv/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s in etcd: %w", method, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s in etcd: %w", method, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s in etcd: %s: %s", method, resp.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}
