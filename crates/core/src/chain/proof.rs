//! Proofs that a leaf is in a tree, and that one tree continues another (RFC 6962, section 2.1;
//! verified as in RFC 9162, sections 2.1.3.2 and 2.1.4.2).

use super::tree::{EMPTY_ROOT, Hash, node_hash};

/// The proof that the leaf at `index` is in the tree over these leaf hashes; `None` if there is no
/// such leaf. Hashes all leaves: meant for the one segment or day that somebody asks about.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    leaves.get(index)?;
    let mut proof = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    proof.reverse();
    Some(proof)
}

/// The proof that the tree over these leaf hashes continues the tree over the first `old` of them;
/// `None` if there are not so many.
pub fn consistency_proof(leaves: &[Hash], old: usize) -> Option<Vec<Hash>> {
    if old > leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    if old == 0 || old == leaves.len() {
        return Some(proof);
    }
    let (mut leaves, mut old, mut is_known) = (leaves, old, true);
    while old < leaves.len() {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if old <= left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            old -= left.len();
            leaves = right;
            is_known = false;
        }
    }
    if !is_known {
        proof.push(root(leaves));
    }
    proof.reverse();
    Some(proof)
}

/// Whether a proof shows that `leaf` is at `index` in the tree of that size and root.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], expected: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut index, mut last, mut node) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            node = node_hash(sibling, &node);
            while index & 1 == 0 && index != 0 {
                (index, last) = (index >> 1, last >> 1);
            }
        } else {
            node = node_hash(&node, sibling);
        }
        (index, last) = (index >> 1, last >> 1);
    }
    last == 0 && node == *expected
}

/// Whether a proof shows that the tree of size `new` continues the one of size `old`.
pub fn verify_consistency(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old > new || old == 0 || old == new {
        let same = old == new && old_root == new_root;
        return proof.is_empty() && (same || old == 0 && new > 0 && *old_root == EMPTY_ROOT);
    }
    // Where the old tree is a full subtree of the new one, its root is not repeated in the proof.
    let mut path = old.is_power_of_two().then_some(old_root).into_iter().chain(proof);
    let Some(first) = path.next() else {
        return false;
    };
    let (mut index, mut last) = (old - 1, new - 1);
    while index & 1 == 1 {
        (index, last) = (index >> 1, last >> 1);
    }
    let (mut old_node, mut new_node) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            old_node = node_hash(sibling, &old_node);
            new_node = node_hash(sibling, &new_node);
            while index & 1 == 0 && index != 0 {
                (index, last) = (index >> 1, last >> 1);
            }
        } else {
            new_node = node_hash(&new_node, sibling);
        }
        (index, last) = (index >> 1, last >> 1);
    }
    last == 0 && old_node == *old_root && new_node == *new_root
}

/// The largest power of two below a number of leaves.
fn split(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree::tests::{LEAVES, ROOTS, hex};
    use super::super::tree::{Tree, leaf_hash};
    use super::*;

    #[test]
    fn published_proofs() {
        let leaves: Vec<Hash> = LEAVES.iter().map(|it| leaf_hash(it)).collect();
        let first = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        let from_six = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            ROOTS[3],
        ];
        let text = |proof: Option<Vec<Hash>>| proof.unwrap().iter().map(|it| hex(it)).collect::<Vec<_>>();
        assert_eq!(text(inclusion_proof(&leaves, 0)), first);
        assert_eq!(text(consistency_proof(&leaves, 1)), first);
        assert_eq!(text(consistency_proof(&leaves, 6)), from_six);
        assert_eq!(inclusion_proof(&leaves, 8), None);
        assert_eq!(consistency_proof(&leaves, 9), None);
    }

    #[test]
    fn every_proof_holds_for_its_own_place_only() {
        let leaves: Vec<Hash> = (0..40u8).map(|i| leaf_hash(&[i])).collect();
        let mut roots = vec![EMPTY_ROOT];
        let mut tree = Tree::default();
        for leaf in &leaves {
            tree.push(*leaf);
            roots.push(tree.root());
        }
        for size in 1..=leaves.len() {
            assert_eq!(root(&leaves[..size]), roots[size]);
            for index in 0..size {
                let proof = inclusion_proof(&leaves[..size], index).unwrap();
                for other in 0..size {
                    let holds =
                        verify_inclusion(other as u64, size as u64, &leaves[index], &proof, &roots[size]);
                    assert_eq!(holds, other == index);
                }
                assert!(!verify_inclusion(
                    index as u64,
                    size as u64,
                    &leaves[index],
                    &proof,
                    &roots[size - 1]
                ));
            }
            for old in 0..=size {
                let proof = consistency_proof(&leaves[..size], old).unwrap();
                let holds = |old_root: &Hash, proof: &[Hash]| {
                    verify_consistency(old as u64, size as u64, proof, old_root, &roots[size])
                };
                assert!(holds(&roots[old], &proof), "{old} {size}");
                assert!(!holds(&[7; 32], &proof));
                assert!(!holds(&roots[old], &[&proof[..], &[[7; 32]]].concat()));
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!holds(&roots[old], shorter));
                }
            }
        }
        assert!(!verify_consistency(2, 1, &[], &roots[2], &roots[1]));
    }
}
