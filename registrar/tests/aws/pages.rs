//! Lists that AWS gives by the page.

use registrar_core::aws::{Arn, Call, Fault, Filter, ListenerQuery, Reply, TargetGroupQuery};

use crate::{
    stub::{Act, Stub},
    support::{Emulator, VPC, call, connect, created_group, done},
};

#[tokio::test]
async fn a_page_of_all_groups_says_where_the_next_begins() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for n in 0..401 {
        created_group(&aws, &format!("g{n}")).await;
    }
    let (mut sizes, mut marker) = (Vec::new(), None);
    loop {
        let page = Call::DescribeTargetGroups(TargetGroupQuery::All { marker });
        let Reply::TargetGroups { target_groups, next_marker } = done(&aws, &page).await else { panic!("groups") };
        sizes.push(target_groups.len());
        if next_marker.is_none() {
            break;
        }
        marker = next_marker;
    }
    assert_eq!(sizes, [400, 1]);
}

#[tokio::test]
async fn pages_of_ec2_are_followed_to_the_end() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for n in 0..1001 {
        let name = format!("g{n}");
        let fields = [
            ("GroupName", name.as_str()),
            ("GroupDescription", "one of many"),
            ("VpcId", VPC),
            ("TagSpecification.1.ResourceType", "security-group"),
            ("TagSpecification.1.Tag.1.Key", "many"),
            ("TagSpecification.1.Tag.1.Value", "1"),
        ];
        emulator.do_in_ec2("CreateSecurityGroup", &fields);
    }
    let many = Filter { name: "tag:many".to_owned(), values: vec!["1".to_owned()] };
    let all = Call::DescribeSecurityGroups { ids: Vec::new(), filters: vec![many] };
    let Reply::SecurityGroups(groups) = done(&aws, &all).await else { panic!("groups") };
    assert_eq!(groups.len(), 1001);
    assert_eq!(emulator.count("DescribeSecurityGroups"), 2);
}

fn listeners(port: u16, next: &str) -> String {
    format!(
        "<DescribeListenersResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <DescribeListenersResult><Listeners><member><ListenerArn>l{port}</ListenerArn><Port>{port}</Port></member>\
         </Listeners>{next}</DescribeListenersResult></DescribeListenersResponse>"
    )
}

#[tokio::test]
async fn pages_of_elb_are_followed_to_the_end() {
    let bodies = vec![
        listeners(1, "<NextMarker>two</NextMarker>"),
        listeners(2, "<NextMarker>three</NextMarker>"),
        listeners(3, ""),
    ];
    let stub = Stub::start(Act::Bodies(bodies)).await;
    let aws = connect(&stub.url).await;
    let query = ListenerQuery::LoadBalancer(Arn::new("lb"));
    let Reply::Listeners(found) = done(&aws, &Call::DescribeListeners(query)).await else { panic!("listeners") };
    assert_eq!(found.iter().map(|listener| listener.port).collect::<Vec<_>>(), [1, 2, 3]);
    let requests = stub.requests();
    assert!(
        !requests[0].contains("Marker") && requests[1].contains("Marker=two") && requests[2].contains("Marker=three")
    );
}

#[tokio::test]
async fn a_page_that_names_itself_as_the_next_is_not_followed_forever() {
    let stub = Stub::start(Act::Bodies(vec![listeners(1, "<NextMarker>again</NextMarker>")])).await;
    let aws = connect(&stub.url).await;
    let fault = call(&aws, &Call::DescribeListeners(ListenerQuery::LoadBalancer(Arn::new("lb")))).await;
    let Err(Fault::Unknown(why)) = fault else { panic!("{fault:?}") };
    assert!(why.contains("names itself"), "{why}");
    assert_eq!(stub.requests().len(), 2);
}
