package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// storageClass is the default class. Its provisioner exists only here, but claims of other classes are served as well.
	storageClass       = "standard"
	storageProvisioner = "kubelet.towline.dev/simulated"
	// askedProvisioner is the annotation by which the volume controller asks a provisioner for the volume of a claim; provisionedBy is the one by
	// which it knows that somebody else deletes the volume.
	askedProvisioner = "volume.kubernetes.io/storage-provisioner"
	provisionedBy    = "pv.kubernetes.io/provisioned-by"
)

func (k *kubelet) createStorageClass(ctx context.Context) error {
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        storageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner:   storageProvisioner,
		ReclaimPolicy: new(corev1.PersistentVolumeReclaimDelete),
	}
	if _, err := k.client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create the default StorageClass: %w", err)
	}
	return nil
}

// syncClaim provides the volume when the volume controller asks for one; that controller then binds the two.
func (k *kubelet) syncClaim(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	claim, err := k.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	provisioner := claim.Annotations[askedProvisioner]
	if provisioner == "" || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return 0, nil
	}
	policy := corev1.PersistentVolumeReclaimDelete
	if claim.Spec.StorageClassName != nil {
		class, err := k.classes.Get(*claim.Spec.StorageClassName)
		if err != nil {
			return 0, err
		}
		if class.ReclaimPolicy != nil {
			policy = *class.ReclaimPolicy
		}
	}
	_, err = k.client.CoreV1().PersistentVolumes().Create(ctx, volumeFor(claim, provisioner, policy), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return 0, nil
	}
	return 0, err
}

func volumeFor(claim *corev1.PersistentVolumeClaim, provisioner string, policy corev1.PersistentVolumeReclaimPolicy) *corev1.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			PersistentVolumeReclaimPolicy: policy,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: "/simulated/" + name}, // never opened
			},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
		},
	}
	if claim.Spec.StorageClassName != nil {
		volume.Spec.StorageClassName = *claim.Spec.StorageClassName
	}
	return volume
}

// syncVolume deletes the volumes of claims that are gone, where their policy is to.
func (k *kubelet) syncVolume(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	volume, err := k.volumes.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if volume.Status.Phase != corev1.VolumeReleased || volume.DeletionTimestamp != nil || volume.Annotations[provisionedBy] == "" ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return 0, nil
	}
	err = k.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(volume.UID))})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}
