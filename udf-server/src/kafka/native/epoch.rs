//! The leader epochs of a list of partitions, which the library's safe interface does not tell.

use rdkafka::bindings as native;
use rdkafka::topic_partition_list::TopicPartitionList;

/// The epoch of each element, in their order; `None` where it has none.
pub(in crate::kafka) fn epochs(list: &TopicPartitionList) -> Vec<Option<i32>> {
    let epoch = |index| {
        // SAFETY: the list is alive as long as `list` is, and it has an element of this index.
        #[expect(unsafe_code, reason = "the library's call that tells it")]
        let epoch = unsafe { native::rd_kafka_topic_partition_get_leader_epoch((*list.ptr()).elems.add(index)) };
        (epoch >= 0).then_some(epoch)
    };
    (0..list.count()).map(epoch).collect()
}

/// Gives the element that was added last this epoch.
pub(in crate::kafka) fn set_of_last(list: &mut TopicPartitionList, epoch: i32) {
    let Some(last) = list.count().checked_sub(1) else { return };
    // SAFETY: the list is ours, as it is borrowed mutably, and it has an element of this index.
    #[expect(unsafe_code, reason = "the library's call that sets it")]
    unsafe {
        native::rd_kafka_topic_partition_set_leader_epoch((*list.ptr()).elems.add(last), epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_keeps_its_epoch() {
        let mut list = TopicPartitionList::new();
        assert_eq!(epochs(&list), []);
        set_of_last(&mut list, 1);
        list.add_partition("t", 0);
        list.add_partition("t", 1);
        set_of_last(&mut list, 7);
        list.add_partition("t", 2);
        assert_eq!(epochs(&list), [None, Some(7), None]);
        assert_eq!(epochs(&list.clone()), [None, Some(7), None], "a copy has them too");
    }
}
