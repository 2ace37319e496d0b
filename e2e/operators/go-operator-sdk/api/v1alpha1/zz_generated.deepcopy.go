package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

func (in *Cache) DeepCopyObject() runtime.Object {
	return &Cache{TypeMeta: in.TypeMeta, ObjectMeta: *in.ObjectMeta.DeepCopy(), Spec: in.Spec}
}

func (in *CacheList) DeepCopyObject() runtime.Object {
	out := &CacheList{TypeMeta: in.TypeMeta, ListMeta: *in.ListMeta.DeepCopy()}
	for i := range in.Items {
		out.Items = append(out.Items, *in.Items[i].DeepCopyObject().(*Cache))
	}
	return out
}
