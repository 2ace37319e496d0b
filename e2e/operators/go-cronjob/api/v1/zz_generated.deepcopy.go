package v1

import "k8s.io/apimachinery/pkg/runtime"

func (in *ScheduleStatus) DeepCopyInto(out *ScheduleStatus) {
	*out = *in
	out.LastScheduleTime = in.LastScheduleTime.DeepCopy()
}

func (in *Schedule) DeepCopyInto(out *Schedule) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Status.DeepCopyInto(&out.Status)
}

func (in *Schedule) DeepCopyObject() runtime.Object {
	out := new(Schedule)
	in.DeepCopyInto(out)
	return out
}

func (in *ScheduleList) DeepCopyObject() runtime.Object {
	out := &ScheduleList{TypeMeta: in.TypeMeta, ListMeta: *in.ListMeta.DeepCopy()}
	for i := range in.Items {
		out.Items = append(out.Items, *in.Items[i].DeepCopyObject().(*Schedule))
	}
	return out
}
